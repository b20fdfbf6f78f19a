"""The studio: a page on this computer that plays with trained models (`musegen studio`)."""
