"""The models' side: connections, pools, one request at a time, and what each vendor accepts."""
