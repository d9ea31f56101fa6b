"""The rows of the tables, one module a group: its title, its columns, and which cells it is made of."""
