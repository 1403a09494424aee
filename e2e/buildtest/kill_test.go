package buildtest

func victim(root, cgroup, addr string) {}
