[ -z "$PS1" ] || [ -n "$TMOUT" ] || readonly TMOUT=900
ulimit -c 0
