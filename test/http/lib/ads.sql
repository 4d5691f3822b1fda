-- Ads of two advertisers, who may ask, and as long as nothing else is said, no worker.
CREATE EXTENSION adclick;
INSERT INTO adclick.ads (ad_id, advertiser_id, redirect_url, active)
	SELECT n, 7 + n % 2, 'https://shop.example/landing?ad=' || n, n <> 13 FROM generate_series(1, 100) n;
INSERT INTO adclick.ads (ad_id, advertiser_id, redirect_url) VALUES (14000, 7, NULL), (9007199254740993, 7, 'https://shop.example/large'), (9223372036854775807, 8, 'https://shop.example/largest');
CREATE ROLE shoes;
CREATE ROLE tea;
CREATE ROLE analyst;
GRANT adclick_advertiser TO shoes, tea;
GRANT adclick_reader TO analyst;
INSERT INTO adclick.advertiser_roles VALUES ('shoes', 7), ('tea', 8);
CREATE ROLE stranger;
GRANT adclick_reader TO stranger;
