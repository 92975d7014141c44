"""Tables, migrations, transactions, backup."""
