"""What the clients of both libraries share. It stands alone: a calling service needs no Django."""
