# The handshake of RFC 6455 with the key of its example, then an echo of every byte; a short answer to
# anything else; one to /late only when the test has made the file.
upgrade=
read -r first
while read -r line; do
    case $line in
        [Uu]pgrade:*) upgrade=yes ;;
        "$(printf '\r')") break ;;
    esac
done
if [ -z "$upgrade" ]; then
    case $first in *' /late '*) while [ ! -e /tmp/now ]; do busybox sleep 0.05; done ;; esac
    printf 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nplain'
    exit
fi
printf 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
printf 'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n'
exec cat
