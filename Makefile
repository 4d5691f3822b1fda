# adclick: exact counts of ad clicks inside PostgreSQL

EXTENSION = adclick
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" adclick.control)
MODULE_big = adclick
DATA = $(wildcard sql/*--*.sql)
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))

PG_CFLAGS = -std=gnu99 -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-cast-function-type $(CFLAGS_EXTRA)

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

$(OBJS): $(wildcard src/*.h)
