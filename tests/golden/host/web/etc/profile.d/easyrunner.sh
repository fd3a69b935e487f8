if [ -n "$PS1" ] && [ -z "$TMOUT" ]; then
    TMOUT=900
    readonly TMOUT
    export TMOUT
fi
[ "$(id -u)" = 0 ] ||
    umask 027
ulimit -c 0
