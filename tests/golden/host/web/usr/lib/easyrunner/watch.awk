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
