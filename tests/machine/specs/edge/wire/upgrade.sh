# The handshake of RFC 6455 with the key of its example, then an echo of every byte; to anything else what was asked,
# to /late only when the test has made the file.
upgrade=
read -r first
head="$first
"
while read -r line; do
    head="$head$line
"
    case $line in
        [Uu]pgrade:*) upgrade=yes ;;
        "$(printf '\r')") break ;;
    esac
done
if [ -z "$upgrade" ]; then
    case $first in *' /late '*) while [ ! -e /tmp/now ]; do busybox sleep 0.05; done ;; esac
    printf 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n%s' "$head"
    exit
fi
printf 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
printf 'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n'
exec cat
