package underlay

const childEnv = "CAUSEWAY_UNDERLAY_CHILD"

func runChild(string) int { return 0 }
