"""What is known of every file, kept from run to run."""
