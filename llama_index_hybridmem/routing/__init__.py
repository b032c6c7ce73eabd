"""Which memories answer a question: need (retrieve at all?), decision, arbiter (enough evidence?), selector (edge)."""
