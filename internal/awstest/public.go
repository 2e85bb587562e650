package awstest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// publicAuthorizationToken is ECR Public's: its role needs an action of STS as well.
func (r *Rig) publicAuthorizationToken(map[string]any) (any, *awsError) {
	for _, action := range []string{"ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"} {
		if !r.allowed(action, "*") {
			return nil, denied(action, "*")
		}
	}
	token, expires := r.newToken()
	return map[string]any{"authorizationData": map[string]any{"authorizationToken": token,
		"expiresAt": float64(expires.Unix())}}, nil
}

// publicToken is the exchange that docker makes of a password: the token is the same.
func (r *Rig) publicToken(w http.ResponseWriter, req *http.Request) {
	basic, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Basic ")
	if !ok {
		http.Error(w, "Not Authorized", http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"token": basic})
}

// createPublicRepository makes one under the alias of the rig's account.
func (r *Rig) createPublicRepository(in map[string]any) (any, *awsError) {
	name, _ := in["repositoryName"].(string)
	arn := fmt.Sprintf("arn:aws:ecr-public::%s:repository/%s", Account, name)
	if !r.allowed("ecr-public:CreateRepository", arn) {
		return nil, denied("ecr-public:CreateRepository", arn)
	}
	r.AddRepository(Account, PublicAlias+"/"+name, false)
	return map[string]any{"repository": map[string]any{"repositoryName": name}}, nil
}

// PublicAlias is that of the account's registry in ECR Public.
const PublicAlias = "a1b2c3d4"
