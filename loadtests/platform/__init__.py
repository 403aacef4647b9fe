"""The platform as a user has it: a home folder, a command line and a public door."""
