"""What stands behind `costs.value`: judged pairs, the paired bootstrap, fixed costs, the balance, its wording."""
