"""A project of plain Django views, whose clients' tokens lie in a table as they are."""
