"""What tests share: servers, hostile files, small models and runs of the command."""
