"""Training records out of an app's own retrieval: what a line holds, how it is made, checked and written."""
