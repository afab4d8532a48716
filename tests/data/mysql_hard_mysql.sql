-- What only MySQL has; on top of mysql_hard.sql.
SET NAMES utf8mb4;
CREATE TABLE `functional` (
  `id` INT PRIMARY KEY,
  `doc` JSON NOT NULL DEFAULT (JSON_OBJECT('k', '),(')),
  `tags` JSON,
  `spot` POINT NOT NULL SRID 4326,
  KEY `by name` ((CAST(`doc`->>'$.name' AS CHAR(30)) COLLATE utf8mb4_bin)),
  KEY `by tag` ((CAST(`tags` AS UNSIGNED ARRAY))),
  SPATIAL KEY `spot` (`spot`)
) ENGINE=InnoDB;
INSERT INTO `functional` VALUES
(1, '{"name": "a"}', '[1, 2, 3]', ST_SRID(POINT(1, 2), 4326)),
(2, '{"name": "it''s \\"b\\""}', NULL, ST_SRID(POINT(3, 4), 4326));
CREATE TABLE `roled` (`id` INT PRIMARY KEY, `secret` INT INVISIBLE DEFAULT 7) ENGINE=InnoDB;
INSERT INTO `roled` (`id`, `secret`) VALUES (1, 8), (2, 9);
