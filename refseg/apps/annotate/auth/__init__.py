"""Accounts and logins, who may do what and how often, the logs."""
