"""What the game does: functions of a database session."""
