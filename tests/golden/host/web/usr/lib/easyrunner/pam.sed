s/ nullok//
s/\(pam_umask.so\).*/\1 nousergroups/
