package plan

// DockerHub is the name that a Plan calls Docker Hub by.
const DockerHub = "docker.io"

// CanonicalHost returns Docker Hub's several names one spelling.
func CanonicalHost(host string) string {
	switch host {
	case "docker.io", "index.docker.io", "registry-1.docker.io", "https://index.docker.io/v1/", "registry.hub.docker.com":
		return DockerHub
	}
	return host
}

// A Login is an account at a registry that base images come from.
type Login struct {
	Host     string `json:"host"` // "docker.io" for Docker Hub
	Username Source `json:"username"`
	Password Source `json:"password"`
	Assumed  bool   `json:"assumed,omitempty"` // nobody asked for it by name: missing parameters are a warning
}

// An Account opens a registry.
type Account struct {
	Username string // "" where Password is an identity token, as some registries give one to docker login
	Password Secret
	From     string // what it was read from, for messages: "ssm:DOCKER_HUB_ID", "docker login"
}

// String tells whose it is, never the password.
func (a Account) String() string {
	who := "an identity token"
	if a.Username != "" {
		who = "the account " + a.Username
	}
	if a.From == "" {
		return who
	}
	return who + " (" + a.From + ")"
}
