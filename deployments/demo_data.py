"""Sample data of the demo, made inside the servers in seconds: a web shop and a data platform."""

from __future__ import annotations

SHOP = """
CREATE DATABASE shop CHARACTER SET utf8mb4;
USE shop;
CREATE TABLE customers (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, name VARCHAR(80) NOT NULL, email VARCHAR(120) NOT NULL UNIQUE,
  city VARCHAR(40) NOT NULL, born DATE NULL, notes JSON NULL, created_at DATETIME NOT NULL,
  KEY by_city (city)) ENGINE=InnoDB;
CREATE TABLE products (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, sku CHAR(10) NOT NULL UNIQUE, title VARCHAR(100) NOT NULL,
  price DECIMAL(10,2) NOT NULL, stock INT NOT NULL, picture VARBINARY(64) NULL) ENGINE=InnoDB;
CREATE TABLE orders (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, customer_id INT UNSIGNED NOT NULL, placed_at DATETIME(3) NOT NULL,
  state ENUM('new','paid','sent','returned') NOT NULL, comment VARCHAR(200) NULL,
  KEY by_day (placed_at), FOREIGN KEY (customer_id) REFERENCES customers (id)) ENGINE=InnoDB;
CREATE TABLE order_items (
  order_id INT UNSIGNED NOT NULL, line TINYINT UNSIGNED NOT NULL, product_id INT UNSIGNED NOT NULL,
  quantity SMALLINT UNSIGNED NOT NULL, price DECIMAL(10,2) NOT NULL,
  total DECIMAL(12,2) AS (quantity * price) STORED, PRIMARY KEY (order_id, line),
  FOREIGN KEY (order_id) REFERENCES orders (id), FOREIGN KEY (product_id) REFERENCES products (id)) ENGINE=InnoDB;
CREATE TABLE audit_log (
  id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, happened_at TIMESTAMP(6) NOT NULL, what VARCHAR(200) NOT NULL)
  ENGINE=InnoDB;
INSERT INTO customers (name, email, city, born, notes, created_at)
  SELECT CONCAT(ELT(1 + seq % 8, 'Ada','Björn','Chloé','Дмитрий','Emre','Fatima','Grace','大輔'), ' ',
                ELT(1 + seq DIV 8 % 6, 'Keller','Nováková','O''Neill','Silva','Yılmaz','Østergård')),
         CONCAT('customer', seq, '@example.org'), ELT(1 + seq % 5, 'Berlin','Lyon','Kraków','Porto','Oslo'),
         IF(seq % 7 = 0, NULL, DATE_ADD('1950-01-01', INTERVAL seq * 37 % 20000 DAY)),
         IF(seq % 3 = 0, NULL, JSON_OBJECT('newsletter', seq % 2 = 0, 'mood', '🙂', 'points', seq % 900)),
         DATE_ADD('2024-01-01', INTERVAL seq * 13 % 600000 MINUTE)
  FROM seq_1_to_20000;
INSERT INTO products (sku, title, price, stock, picture)
  SELECT CONCAT('SKU', LPAD(seq, 7, '0')), CONCAT(ELT(1 + seq % 4, 'Lamp','Chair','Desk','Shelf'), ' no. ', seq),
         5 + seq * 17 % 50000 / 100, seq * 7 % 300, UNHEX(SHA2(seq, 256))
  FROM seq_1_to_2000;
INSERT INTO orders (customer_id, placed_at, state, comment)
  SELECT 1 + seq * 7919 % 20000, DATE_ADD('2025-01-01', INTERVAL seq * 211 SECOND),
         ELT(1 + seq % 4, 'new','paid','sent','returned'), IF(seq % 9 = 0, 'Ring twice; it''s the "blue" door', NULL)
  FROM seq_1_to_100000;
INSERT INTO order_items (order_id, line, product_id, quantity, price)
  SELECT 1 + seq DIV 2, 1 + seq % 2, 1 + seq * 31 % 2000, 1 + seq % 5, 5 + seq % 9000 / 100
  FROM seq_0_to_199999;
CREATE VIEW revenue_by_day AS
  SELECT DATE(placed_at) AS day, SUM(total) AS revenue
  FROM orders JOIN order_items ON order_items.order_id = orders.id GROUP BY DATE(placed_at);
CREATE TRIGGER orders_are_logged AFTER INSERT ON orders FOR EACH ROW
  INSERT INTO audit_log (happened_at, what) VALUES (NOW(6), CONCAT('order ', NEW.id));
CREATE PROCEDURE restock(IN amount INT) UPDATE products SET stock = stock + amount;
"""

SHOP_TABLES = {"customers": "id", "products": "id", "orders": "id", "order_items": "order_id, line", "audit_log": "id"}
"""Tables of ``shop`` and the columns that put their rows in order."""

SHOP_DISASTER = "SET foreign_key_checks = 0; DROP TABLE shop.orders, shop.order_items, shop.customers;"

PLATFORM = """
CREATE DATABASE platform;
\\connect platform
CREATE SCHEMA bronze; CREATE SCHEMA silver; CREATE SCHEMA gold;
CREATE TYPE silver.quality AS ENUM ('good', 'doubtful', 'bad');
CREATE TABLE bronze.readings (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sensor int NOT NULL, taken_at timestamptz NOT NULL,
  value numeric(12,4), tags text[] NOT NULL, raw jsonb);
CREATE TABLE silver.daily (
  sensor int NOT NULL, day date NOT NULL, mean double precision NOT NULL, quality silver.quality NOT NULL,
  PRIMARY KEY (sensor, day));
CREATE TABLE gold.reports (id serial PRIMARY KEY, title text NOT NULL, body bytea NOT NULL, made_at timestamptz);
INSERT INTO bronze.readings (sensor, taken_at, value, tags, raw)
  SELECT n % 200, timestamptz '2025-01-01 00:00:00Z' + n * interval '11 seconds',
         CASE WHEN n % 53 = 0 THEN NULL ELSE round((20 + 8 * sin(n / 500.0))::numeric, 4) END,
         ARRAY['floor ' || n % 4, CASE WHEN n % 10 = 0 THEN 'maß "neu"' ELSE 'ok' END],
         CASE WHEN n % 3 = 0 THEN NULL ELSE jsonb_build_object('battery', n % 101, 'note', E'tab\\tand \\\\ 🙂') END
  FROM generate_series(1, 250000) AS n;
INSERT INTO silver.daily
  SELECT sensor, taken_at::date, avg(value)::double precision,
         (CASE WHEN count(*) > 30 THEN 'good' ELSE 'doubtful' END)::silver.quality
  FROM bronze.readings GROUP BY 1, 2;
INSERT INTO gold.reports (title, body, made_at)
  SELECT 'Report ' || n, decode(repeat(md5(n::text), 20), 'hex'),
         timestamptz '2025-02-01 06:00Z' + n * interval '1 hour'
  FROM generate_series(1, 2000) AS n;
CREATE INDEX by_sensor ON bronze.readings (sensor, taken_at);
CREATE VIEW gold.latest AS SELECT sensor, max(taken_at) AS taken_at FROM bronze.readings GROUP BY sensor;
CREATE FUNCTION gold.sensors() RETURNS bigint LANGUAGE sql STABLE
  AS 'SELECT count(DISTINCT sensor) FROM bronze.readings';
ALTER DATABASE platform SET statement_timeout = '10min';
"""

PLATFORM_TABLES = {"bronze.readings": "id", "silver.daily": "sensor, day", "gold.reports": "id"}
"""Tables of ``platform`` and the columns that put their rows in order."""

PLATFORM_DISASTER = "DROP DATABASE platform WITH (FORCE);"

SHOP_LATER = """
USE shop;
INSERT INTO orders (customer_id, placed_at, state, comment)
  SELECT 1 + seq % 20000, NOW(3), 'new', 'placed after the last full backup' FROM seq_1_to_1000;
"""
"""Work of the day, in no full backup."""

SHOP_ACCIDENT = "USE shop; SET foreign_key_checks = 0; DROP TABLE orders;"

PLATFORM_LATER = """
INSERT INTO bronze.readings (sensor, taken_at, value, tags)
  SELECT n % 200, now(), n / 7.0, ARRAY['measured after the last base'] FROM generate_series(1, 5000) AS n;
"""

PLATFORM_ACCIDENT = "DELETE FROM bronze.readings WHERE id % 2 = 0;"
