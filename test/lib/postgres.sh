# Which PostgreSQL to build for and to run: what test/run and demo/run share.
#
# PG_CONFIG chooses one.  Without it that is the newest supported one that the
# distribution's packages have put on the machine; without any, the one they
# offer.  In Debian the server, its development files and pg_config are packages
# of their own, so each is looked for.

# is_complete PG_CONFIG: extensions can be built for it, and it has a server
is_complete()
{
	local pgxs major

	major=$("$1" --version 2>/dev/null | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p')
	[ -n "$major" ] && [ "$major" -ge 15 ] && [ "$major" -le 18 ] || return 1
	pgxs=$("$1" --pgxs) && [ -f "$pgxs" ] && [ -f "$("$1" --includedir-server)/postgres.h" ] &&
		[ -x "$("$1" --bindir)/initdb" ]
}

# The installed programs of Debian's packages with this name, the newest version first.
debian_programs()
{
	local program

	for program in /usr/lib/postgresql/*/bin/"$1"; do
		[ ! -x "$program" ] || echo "$program"
	done | sort -rV
}

# Sets and exports PG_CONFIG, or fails.
find_postgres()
{
	local candidate

	for candidate in ${PG_CONFIG:-$(debian_programs pg_config) pg_config}; do
		is_complete "$candidate" || continue
		export PG_CONFIG=$candidate
		return 0
	done
	return 1
}

# The major version to install: of a server that lacks its development files, or the distribution's.
postgres_to_install()
{
	local initdb

	case ${PG_CONFIG:-} in
		/usr/lib/postgresql/*/bin/pg_config) initdb=$PG_CONFIG ;;
		"") initdb=$(debian_programs initdb | head -n 1) ;;
		*) return 1 ;;
	esac
	if [ -n "$initdb" ]; then
		initdb=${initdb#/usr/lib/postgresql/}
		echo "${initdb%%/*}"
	else
		apt-cache depends postgresql 2>/dev/null | sed -n 's/.*Depends: postgresql-\([0-9][0-9]*\)$/\1/p' | head -n 1
	fi
}
