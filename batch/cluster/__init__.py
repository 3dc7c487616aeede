"""Labelling on a Ray cluster: ``batch.engine`` opens it, and nothing else imports from here."""
