"""Episodes that ship with the project, in two labs' real raw layouts, and the script that recorded them."""
