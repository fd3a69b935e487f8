"""What the two hosts of `er server move` do: `move` answers the client, `move_old` lets go and `move_new` takes over,
each as far as its file in `move_state` says; `data_list` and `data_copy` compare and send what lies in directories.
"""
