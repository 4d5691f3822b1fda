# What demo/run and demo/stop share: where the server lives, and its end.

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
home=$tree/demo.tmp				# the server's directory, or a link to it

say() { printf '%s\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

# Stop the server of an earlier run, if there is one, and remove its files.
stop_server()
{
	local dir pid

	[ -e "$home" ] || [ -L "$home" ] || return 0
	dir=$(readlink -f "$home")
	case $dir in
		"$tree/demo.tmp" | /tmp/adclick-demo.*) ;;
		*) fail "$home leads to $dir, which is not the demo's" ;;
	esac
	pid=$(head -n 1 "$dir/data/postmaster.pid" 2>/dev/null || true)
	# Process ids are used again: ours is the one that lives in our directory.
	if [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$dir/data" ]; then
		kill -QUIT "$pid"
		while [ -e "/proc/$pid" ]; do sleep 0.1; done
	fi
	rm -rf "$dir" "$home"
}
