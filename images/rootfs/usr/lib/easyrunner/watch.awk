# The client as it counts: an IPv4 address, or the /64 of an IPv6 one, as that is what one gets. The host's own addresses
# do not count; where it shares its /64 with others, they count one by one. An address of the link alone counts nowhere.
function say(client, what,    all, part, hex, net, i, own, line) {
	sub(/^::ffff:/, "", client)
	if (client !~ /^[0-9a-f.:]+$/) return
	if (client ~ /:/) {
		all = client
		while (gsub(/:/, ":", all) < 7 && sub(/::/, "::0:", all));
		split(all, part, ":")
		for (i = 1; i < 9; i++) {
			hex = hex (all = substr("0000" part[i], length(part[i]) + 1))
			if (i < 5) net = net all ":"
		}
		net = net ":/64"
		own = "/proc/net/if_inet6"
		while ((getline line <own) > 0) {
			if (index(line, substr(hex, 1, 16)) == 1) net = client
			if (index(line, hex)) what = ""
		}
		close(own)
		client = net
	}
	if (what) print client, what
}

# A line of the proxy. No quote is left within a text, so none can pass for a key. What a page made a browser ask for is
# not its visitor's doing. Cut, as journald splits what is long.
/^\{/ {
	gsub(/\\./, "_")
	split("", value)
	for (i = split($0, part, "\""); i > 1; i--) if (part[i] == ":") value[part[i - 1]] = part[i + 1]
	host = tolower(value["host"])
	gsub(/:[0-9]+$| /, "", host)
	if (match($0, /"status":4../) && value["sec_fetch_site"] !~ /^(cross|same)-/)
		say(value["client_ip"], substr($0, RSTART + 9, 3) " //" substr(host value["uri"], 1, 500))
	next
}

# TIME HOST sshd[PID]: what it said. The first line of a connection has its address, the last one says how it ended.
{
	pid = $3
	sub(/^[^ ]+ [^ ]+ [^ ]+ (fatal: )?/, "")
	if (/^Connection from /) from[pid] = $3
	else if (/^(Accepted|Connection (closed|reset)|Disconnect(ed|ing)|Timeout) /) {
		if (/^Timeout.* pid = /) pid = "sshd-session[" $NF "]:"
		if (/^Timeout| (authenticating|invalid) user /) say(from[pid], "no login")
		delete from[pid]
	}
}
