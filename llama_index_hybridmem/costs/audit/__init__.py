"""Who was told what from which sources, so that nobody can change it unseen."""
