# A shell that has no typeset does not end at a prompt either.
if [ -n "$PS1" ] && [ -z "$TMOUT" ] && command -v typeset >/dev/null; then
    # shellcheck disable=SC3044
    typeset -xr TMOUT=900
fi
# What root makes for the system can be read by the system.
[ "$(id -u)" = 0 ] ||
    umask 027
ulimit -c 0
