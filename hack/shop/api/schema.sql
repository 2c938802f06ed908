CREATE TABLE IF NOT EXISTS products (
	id    integer PRIMARY KEY,
	name  text    NOT NULL,
	cents integer NOT NULL CHECK (cents >= 0),
	stock integer NOT NULL CHECK (stock >= 0)
);
CREATE TABLE IF NOT EXISTS orders (
	id      integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	product integer     NOT NULL REFERENCES products,
	made    timestamptz NOT NULL DEFAULT now()
);
INSERT INTO products (id, name, cents, stock) VALUES
	(1, 'Anchor',       4900,  20),
	(2, 'Compass',      2450,  50),
	(3, 'Lantern',      1990, 100),
	(4, 'Rope, 10 m',    890, 500),
	(5, 'Ship in a bottle', 12900, 3)
ON CONFLICT DO NOTHING;
