-- What breaks dumps, in one database. Load with the stock client into an empty database (utf8mb4).
-- MySQL 8.4+ and MariaDB 10.11+; mysql_hard_mariadb.sql and mysql_hard_mysql.sql add what only one has.
SET NAMES utf8mb4;
SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00', foreign_key_checks = 0;

CREATE TABLE `types` (
  `id` INT UNSIGNED NOT NULL AUTO_INCREMENT,
  `tiny` TINYINT DEFAULT -128,
  `big` BIGINT UNSIGNED DEFAULT 18446744073709551615,
  `amount` DECIMAL(30,10) NOT NULL DEFAULT 0,
  `ratio` DOUBLE DEFAULT NULL,
  `single` FLOAT DEFAULT NULL,
  `flag` BIT(10) DEFAULT b'1010101010',
  `made` DATETIME(6) NOT NULL DEFAULT '0000-00-00 00:00:00.000000',
  `day` DATE DEFAULT '9999-12-31',
  `seen` TIMESTAMP NULL DEFAULT NULL,
  `clock` TIME(3) DEFAULT '-838:59:59.000',
  `anno` YEAR DEFAULT 2155,
  `kind` ENUM('plain','it''s','a,b','),(','') DEFAULT 'plain',
  `marks` SET('x','y','z') DEFAULT 'x,z',
  `word` VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin DEFAULT NULL,
  `latin` VARCHAR(50) CHARACTER SET latin1 DEFAULT NULL,
  `note` LONGTEXT,
  `document` JSON DEFAULT NULL,
  `fixed` BINARY(16) DEFAULT NULL,
  `blobs` LONGBLOB,
  `place` POINT DEFAULT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `word` (`word`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='types; it''s "quoted" -- not a comment\nINSERT INTO `types` VALUES';

INSERT INTO `types` (`id`, `amount`, `ratio`, `single`, `word`, `latin`, `note`, `document`, `fixed`, `blobs`, `place`, `made`, `day`, `seen`) VALUES
(1, 12345678901234567890.0123456789, 1.7976931348623157e308, 3.40282e38, 'plain', 'caf\xe9', 'one', '{"a": [1, 2.5, null, "),("], "b": "it''s"}', 0x000102030405060708090A0B0C0D0E0F, 0x00FF27225C0A0D1A, POINT(1.5, -2.5), '2024-02-29 23:59:59.999999', '1000-01-01', '2038-01-19 03:14:07'),
(2, -0.0000000001, -2.2250738585072014e-308, -1.5, '😀 emoji 日本語 עברית', NULL, 'line one\nline two\r\nline three\0nul\Z', NULL, NULL, '', NULL, '0000-00-00 00:00:00', '0000-00-00', NULL),
(3, 0, 0, 0, '''),(''', '),(', '(1,''a''),(2,''b'');\nINSERT INTO `types` VALUES (9);\n-- Dump completed on 2020-01-01\n', '[]', 0x27292C2827, 0x292C280A, POINT(0, 0), '9999-12-31 23:59:59', '9999-12-31', '1970-01-01 00:00:01'),
(4, 1, NULL, NULL, 'back\\slash\\', '\\', '\\\\''\\''),(''\\''', '{"x": "\\\\"}', 0x5C, 0x5C27, NULL, '2025-01-01 00:00:00', NULL, NULL),
(5, 2, NULL, NULL, '', '', '', '"text"', '', 0x0A2D2D2044756D7020636F6D706C65746564, NULL, '2025-01-01 00:00:00', NULL, NULL),
(6, 3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '2025-01-01 00:00:00', NULL, NULL),
(7, 4, NULL, NULL, 'trailing \\''', '"', '''', '{}', NULL, 0x22, NULL, '2025-01-01 00:00:00', NULL, NULL),
(0, 5, NULL, NULL, 'id zero', ';', ';\n', 'null', NULL, REPEAT('x', 70000), NULL, '2025-01-01 00:00:00', NULL, NULL);
ALTER TABLE `types` AUTO_INCREMENT = 4200;

CREATE TABLE `computed` (
  `a` INT NOT NULL,
  `b` INT NOT NULL,
  `total` INT GENERATED ALWAYS AS (`a` + `b`) STORED,
  `label` VARCHAR(40) GENERATED ALWAYS AS (CONCAT('#', `a`, '),(', `b`)) VIRTUAL,
  `c` VARCHAR(20) DEFAULT 'x',
  PRIMARY KEY (`a`),
  KEY `label` (`label`),
  CONSTRAINT `small` CHECK (`b` < 1000)
) ENGINE=InnoDB;
INSERT INTO `computed` (`a`, `b`, `c`) VALUES (1, 2, 'one'), (3, 4, '),('), (5, 6, NULL);

CREATE TABLE `hen` (`id` INT PRIMARY KEY, `egg_id` INT, CONSTRAINT `hen_egg` FOREIGN KEY (`egg_id`) REFERENCES `egg` (`id`) ON DELETE SET NULL) ENGINE=InnoDB;
CREATE TABLE `egg` (`id` INT PRIMARY KEY, `hen_id` INT, CONSTRAINT `egg_hen` FOREIGN KEY (`hen_id`) REFERENCES `hen` (`id`) ON DELETE CASCADE) ENGINE=InnoDB;
CREATE TABLE `tree` (`id` INT PRIMARY KEY, `parent` INT, CONSTRAINT `self` FOREIGN KEY (`parent`) REFERENCES `tree` (`id`)) ENGINE=InnoDB;
INSERT INTO `hen` VALUES (1, 1), (2, NULL);
INSERT INTO `egg` VALUES (1, 1), (2, 2);
INSERT INTO `tree` VALUES (1, 2), (2, 1), (3, 3);

CREATE TABLE `parted` (
  `id` INT NOT NULL,
  `at` DATE NOT NULL,
  `text` VARCHAR(100),
  PRIMARY KEY (`id`, `at`)
) ENGINE=InnoDB
PARTITION BY RANGE (YEAR(`at`))
(PARTITION `p2023` VALUES LESS THAN (2024) ENGINE = InnoDB,
 PARTITION `p2024` VALUES LESS THAN (2025) ENGINE = InnoDB,
 PARTITION `rest` VALUES LESS THAN MAXVALUE ENGINE = InnoDB);
INSERT INTO `parted` VALUES (1, '2023-05-05', 'old'), (2, '2024-05-05', NULL), (3, '2030-05-05', 'new');

CREATE TABLE `empty` (`id` INT PRIMARY KEY AUTO_INCREMENT, `x` TEXT) ENGINE=InnoDB AUTO_INCREMENT=77;
CREATE TABLE `no key` (`x` INT, `y` VARCHAR(10)) ENGINE=InnoDB;
INSERT INTO `no key` VALUES (1, 'same'), (1, 'same'), (NULL, NULL);
CREATE TABLE `od``d 'n"ame; -- VALUES (` (`co``l 'u"mn` INT PRIMARY KEY, `VALUES (` VARCHAR(10), `größe` INT) ENGINE=InnoDB;
INSERT INTO `od``d 'n"ame; -- VALUES (` VALUES (1, 'a', 1), (2, '),(', 2);
CREATE TABLE `таблица 表 é` (`ключ` INT PRIMARY KEY, `значение` TEXT) ENGINE=InnoDB COMMENT='имя';
INSERT INTO `таблица 表 é` VALUES (1, 'один'), (2, 'два'), (3, 'три'), (4, NULL);
CREATE TABLE `select` (`order` INT PRIMARY KEY, `group` INT INVISIBLE DEFAULT 3) ENGINE=InnoDB;
INSERT INTO `select` (`order`, `group`) VALUES (1, 1), (2, 2);
CREATE TABLE `log` (`id` INT PRIMARY KEY AUTO_INCREMENT, `what` TEXT) ENGINE=InnoDB;

DELIMITER ;;
CREATE TRIGGER `note ``hen`` new` AFTER INSERT ON `hen` FOR EACH ROW
BEGIN
  -- the words of a dump inside a body must not fool anyone:
  INSERT INTO `log` (`what`) VALUES
(CONCAT('hen ', NEW.`id`)),
('),(');
END;;
CREATE TRIGGER `egg_before` BEFORE UPDATE ON `egg` FOR EACH ROW SET NEW.`hen_id` = COALESCE(NEW.`hen_id`, OLD.`hen_id`);;
CREATE PROCEDURE `add hen`(IN `hen` INT, OUT `total` INT)
    COMMENT 'adds one; it''s simple'
BEGIN
  DECLARE EXIT HANDLER FOR SQLEXCEPTION SET `total` = -1;
  INSERT INTO `hen` VALUES
(`hen`, NULL);
  SELECT COUNT(*) INTO `total` FROM `hen`;
  -- Dumping data for table `ghost`
/*
INSERT INTO `ghost` VALUES
(1),
(2);
*/
END;;
CREATE FUNCTION `double it`(`x` INT) RETURNS INT DETERMINISTIC NO SQL RETURN `x` * 2;;
CREATE EVENT `tidy` ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' ON COMPLETION PRESERVE DISABLE
    COMMENT 'later' DO BEGIN DELETE FROM `log` WHERE `id` < 0; END;;
CREATE EVENT `awake` ON SCHEDULE EVERY 10 YEAR STARTS '2035-01-01 00:00:00' ENABLE DO INSERT INTO `log` (`what`) VALUES ('awake');;
DELIMITER ;

CREATE VIEW `hens` AS SELECT `h`.`id`, `e`.`id` AS `egg`, `double it`(`h`.`id`) AS `twice` FROM `hen` `h` LEFT JOIN `egg` `e` ON `e`.`hen_id` = `h`.`id`;
CREATE VIEW `above` AS SELECT * FROM `hens` WHERE `id` > 1;
CREATE ALGORITHM=MERGE SQL SECURITY INVOKER VIEW `od``d view` AS SELECT `co``l 'u"mn` AS `a``b`, 'x\nINSERT INTO `ghost` VALUES (1),(2);\n' AS `text` FROM `od``d 'n"ame; -- VALUES (` WITH CASCADED CHECK OPTION;
SET SESSION foreign_key_checks = 1;
