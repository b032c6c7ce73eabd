"""The parts of `methods.py`: what is compared, how it is trained, asked, judged and shown."""
