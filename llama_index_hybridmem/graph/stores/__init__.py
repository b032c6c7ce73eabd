"""Graph stores: one interface (`base`), one file per database."""
