package buildspec

// compose follows docker compose.
func (c *converter) compose(cmd *command, args []string) {
	for _, a := range args {
		switch a {
		case "build", "push", "up":
			c.problem(cmd, "images of a Compose file are not moved over: write each service that is built under images, with the keys of its build section")
			return
		}
	}
}
