# adclick: exact counts of ad clicks inside PostgreSQL

EXTENSION = adclick
MODULE_big = adclick
DATA = $(wildcard sql/*--*.sql)
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*/*.c)))

# Includes of another folder name it: see test/t/000_includes.pl.
PG_CPPFLAGS = -I$(srcdir)/src
PG_CFLAGS = -std=gnu99 -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-cast-function-type $(CFLAGS_EXTRA)
# Calls between our own files need no look-up at run time.
SHLIB_LINK = -Wl,-Bsymbolic-functions

# make installcheck, in a running server that preloads adclick.  "setup" is first:
# it makes the database ready, which the isolation tests use, too.
REGRESS = setup $(filter-out setup,$(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql))))
REGRESS_OPTS = --inputdir=test --encoding=UTF8 --no-locale
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --use-existing

# Debian has pg_config --pgxs in packages without the headers of the server.
PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
HEADER := $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)/postgres.h
ifneq ($(and $(wildcard $(PGXS)),$(wildcard $(HEADER))),)
include $(PGXS)
ISOLATION_OPTS += --dbname=$(CONTRIB_TESTDB)
else
all install:
	@echo "PostgreSQL's development files are missing (Debian: postgresql-server-dev-15, -17 or -18), or PG_CONFIG is wrong" >&2; exit 1
endif

$(OBJS): $(wildcard src/*/*.h)

# Their loops go through columns of facts.
src/core/facts.o src/core/segment.o: CFLAGS += $(CFLAGS_VECTORIZE)
src/core/segment.o: CFLAGS += $(CFLAGS_UNROLL_LOOPS)

# The figures of docs/performance.md; make bench PARTS="copy hour" for some.
bench: install
	@bench/run $(PARTS)

.PHONY: bench

# A server to look at: see demo/run.  Both install what is missing themselves.
demo:
	@demo/run

demo-stop:
	@demo/stop

.PHONY: demo demo-stop

# All tests, or some kinds of them: make test KIND="regress isolation"
test:
	@test/run $(KIND)

.PHONY: test
