"""Events as the cells of a table: the columns, and what personal data becomes in them."""
