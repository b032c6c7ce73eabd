"""Parts of `noise_training.py`: questions, damage, arms, answers and what is made of them."""
