if [ -n "$PS1" ] && [ -z "$TMOUT" ] && command -v typeset >/dev/null; then
    typeset -xr TMOUT=900
fi
[ "$(id -u)" = 0 ] ||
    umask 027
ulimit -c 0
