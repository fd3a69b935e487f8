if [ -n "$PS1" ] && [ -z "$TMOUT" ]; then
    TMOUT=900
    readonly TMOUT
    export TMOUT
fi
# What root makes for the system can be read by the system.
[ "$(id -u)" = 0 ] ||
    umask 027
ulimit -c 0
