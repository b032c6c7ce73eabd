"""What is paid by the hour or the month, split; and what each phase has cost."""
