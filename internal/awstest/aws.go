package awstest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// SetParameter puts a parameter into SSM; secure or not, it comes decrypted.
func (r *Rig) SetParameter(name, value string) {
	r.mu.Lock()
	r.parameters[name] = value
	r.mu.Unlock()
}

// SetSecret puts a secret into Secrets Manager.
func (r *Rig) SetSecret(id, value string) { r.mu.Lock(); r.secrets[id] = value; r.mu.Unlock() }

// SetService makes an ECS service whose task definition has the containers.
func (r *Rig) SetService(cluster, name string, containers ...string) {
	r.mu.Lock()
	r.services[cluster+"/"+name] = containers
	r.mu.Unlock()
}

// RefuseKMS has KMS refuse to decrypt every parameter.
func (r *Rig) RefuseKMS() { r.mu.Lock(); r.kmsRefuses = true; r.mu.Unlock() }

// ExpireTokens has the registry call every token given so far expired.
func (r *Rig) ExpireTokens() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for t := range r.tokens {
		r.tokens[t] = time.Now().Add(-time.Minute)
	}
}

type awsError struct {
	status        int
	code, message string
}

func denied(action, resource string) *awsError {
	return &awsError{http.StatusBadRequest, "AccessDeniedException", refusal(action, resource)}
}

// aws answers the JSON protocols by their X-Amz-Target, and STS by its form.
func (r *Rig) aws(w http.ResponseWriter, req *http.Request) {
	target := req.Header.Get("X-Amz-Target")
	var in map[string]any
	if target != "" {
		_ = json.NewDecoder(req.Body).Decode(&in)
	} else if req.FormValue("Action") == "GetCallerIdentity" {
		r.record(Request{Action: "sts:GetCallerIdentity", Method: req.Method})
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>%s</Arn><UserId>AROAEXAMPLE:AWSCodeBuild-1</UserId><Account>%s</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`, Role, Account)
		return
	}
	calls := map[string]struct {
		action string
		f      func(map[string]any) (any, *awsError)
	}{
		"AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken": {"ecr:GetAuthorizationToken", r.getAuthorizationToken},
		"AmazonEC2ContainerRegistry_V20150921.DescribeRepositories":  {"ecr:DescribeRepositories", r.describeRepositories},
		"AmazonEC2ContainerRegistry_V20150921.CreateRepository":      {"ecr:CreateRepository", r.createRepository},
		"AmazonEC2ContainerRegistry_V20150921.PutLifecyclePolicy":    {"ecr:PutLifecyclePolicy", r.putLifecyclePolicy},
		"AmazonEC2ContainerRegistry_V20150921.DescribeImages":        {"ecr:DescribeImages", r.describeImages},
		"AmazonEC2ContainerRegistry_V20150921.DescribeRepositoryCreationTemplates": {
			"ecr:DescribeRepositoryCreationTemplates", r.describeCreationTemplates},
		"AmazonEC2ContainerRegistry_V20150921.GetSigningConfiguration": {"ecr:GetSigningConfiguration",
			r.getSigningConfiguration},
		"SpencerFrontendService.GetAuthorizationToken": {"ecr-public:GetAuthorizationToken",
			r.publicAuthorizationToken},
		"SpencerFrontendService.CreateRepository": {"ecr-public:CreateRepository",
			r.createPublicRepository},
		"AmazonSSM.GetParameters":                             {"ssm:GetParameters", r.getParameters},
		"secretsmanager.GetSecretValue":                       {"secretsmanager:GetSecretValue", r.getSecretValue},
		"AmazonEC2ContainerServiceV20141113.DescribeServices": {"ecs:DescribeServices", r.describeServices},
		"AmazonEC2ContainerServiceV20141113.DescribeTaskDefinition": {"ecs:DescribeTaskDefinition",
			r.describeTaskDefinition},
	}
	call, ok := calls[target]
	if !ok {
		http.Error(w, "the rig has no "+target, http.StatusNotImplemented)
		return
	}
	entry := Request{Action: call.action, Method: req.Method, Path: req.URL.Path}
	if f := r.fault(entry); f != nil {
		r.record(entry.with(f.Status))
		if f.apply(w, req, writeAWSError) {
			return
		}
	}
	out, err := call.f(in)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if err != nil {
		r.record(entry.with(err.status))
		writeAWSError(w, err.status, err.code, err.message)
		return
	}
	r.record(entry.with(http.StatusOK))
	_ = json.NewEncoder(w).Encode(out)
}

func writeAWSError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}

func (r *Rig) getAuthorizationToken(map[string]any) (any, *awsError) {
	if !r.allowed("ecr:GetAuthorizationToken", "*") {
		return nil, denied("ecr:GetAuthorizationToken", "*")
	}
	token, expires := r.newToken()
	return map[string]any{"authorizationData": []any{map[string]any{
		"authorizationToken": token,
		"expiresAt":          float64(expires.Unix()),
		"proxyEndpoint":      "https://" + r.Host(Account),
	}}}, nil
}

// newToken makes a password of ECR.
func (r *Rig) newToken() (authorization string, expires time.Time) {
	token := rand.Text()
	expires = time.Now().Add(12 * time.Hour)
	r.mu.Lock()
	r.tokens[token] = expires
	r.mu.Unlock()
	return base64.StdEncoding.EncodeToString([]byte("AWS:" + token)), expires
}

func (r *Rig) describeRepositories(in map[string]any) (any, *awsError) {
	names, _ := in["repositoryNames"].([]any)
	account, _ := in["registryId"].(string)
	if account == "" {
		account = Account
	}
	var out []any
	for _, n := range names {
		name, _ := n.(string)
		arn := fmt.Sprintf("arn:aws:ecr:%s:%s:repository/%s", r.Region, account, name)
		if !r.allowed("ecr:DescribeRepositories", arn) {
			return nil, denied("ecr:DescribeRepositories", arn)
		}
		r.mu.Lock()
		repo := r.repositories[account+"/"+name]
		r.mu.Unlock()
		if repo == nil {
			return nil, &awsError{http.StatusBadRequest, "RepositoryNotFoundException",
				fmt.Sprintf("The repository with name '%s' does not exist in the registry with id '%s'", name, account)}
		}
		mutability := "MUTABLE"
		var filters []any
		if repo.immutable {
			mutability = "IMMUTABLE"
		}
		for _, f := range repo.except {
			mutability = "IMMUTABLE_WITH_EXCLUSION"
			filters = append(filters, map[string]any{"filter": f, "filterType": "WILDCARD"})
		}
		out = append(out, map[string]any{"repositoryName": name, "repositoryArn": arn, "registryId": account,
			"imageTagMutability": mutability, "imageTagMutabilityExclusionFilters": filters})
	}
	return map[string]any{"repositories": out}, nil
}

// target reads which repository a call is about, and asks IAM.
func (r *Rig) target(action string, in map[string]any) (key, name string, _ *awsError) {
	name, _ = in["repositoryName"].(string)
	account, _ := in["registryId"].(string)
	if account == "" {
		account = Account
	}
	arn := fmt.Sprintf("arn:aws:ecr:%s:%s:repository/%s", r.Region, account, name)
	if !r.allowed(action, arn) {
		return "", "", denied(action, arn)
	}
	return account + "/" + name, name, nil
}

func (r *Rig) createRepository(in map[string]any) (any, *awsError) {
	key, name, err := r.target("ecr:CreateRepository", in)
	if err != nil {
		return nil, err
	}
	account, _, _ := strings.Cut(key, "/")
	mutability, _ := in["imageTagMutability"].(string)
	filters, _ := in["imageTagMutabilityExclusionFilters"].([]any)
	if (mutability == "IMMUTABLE_WITH_EXCLUSION") != (len(filters) > 0) || len(filters) > 5 {
		return nil, &awsError{http.StatusBadRequest, "InvalidParameterException", "imageTagMutabilityExclusionFilters"}
	}
	r.AddRepository(account, name, strings.HasPrefix(mutability, "IMMUTABLE"))
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range filters {
		m, _ := f.(map[string]any)
		pattern, _ := m["filter"].(string)
		r.repositories[key].except = append(r.repositories[key].except, pattern)
	}
	return map[string]any{"repository": map[string]any{"repositoryName": name}}, nil
}

func (r *Rig) putLifecyclePolicy(in map[string]any) (any, *awsError) {
	_, name, err := r.target("ecr:PutLifecyclePolicy", in)
	return map[string]any{"repositoryName": name, "lifecyclePolicyText": in["lifecyclePolicyText"]}, err
}

func (r *Rig) describeImages(in map[string]any) (any, *awsError) {
	key, name, err := r.target("ecr:DescribeImages", in)
	if err != nil {
		return nil, err
	}
	ids, _ := in["imageIds"].([]any)
	var out []any
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		m, _ := id.(map[string]any)
		tag, _ := m["imageTag"].(string)
		d, _ := m["imageDigest"].(string)
		repo := r.repositories[key]
		if tags := repo.tagsOf(digest.Digest(d)); len(tags) > 0 {
			out = append(out, map[string]any{"repositoryName": name, "imageDigest": d, "imageTags": tags})
			continue
		}
		if repo == nil || repo.tags[tag] == "" {
			return nil, &awsError{http.StatusBadRequest, "ImageNotFoundException",
				fmt.Sprintf("The image with imageId {imageDigest:'null', imageTag:'%s'} does not exist within the repository with name '%s'", tag, name)}
		}
		out = append(out, map[string]any{"repositoryName": name, "imageDigest": repo.tags[tag].String(),
			"imageTags": []any{tag}})
	}
	return map[string]any{"imageDetails": out}, nil
}

// Host is the registry's name of an account in the rig's region.
func (r *Rig) Host(account string) string {
	return account + ".dkr.ecr." + r.Region + ".amazonaws.com"
}

func (r *Rig) getParameters(in map[string]any) (any, *awsError) {
	names, _ := in["Names"].([]any)
	if len(names) == 0 || len(names) > 10 {
		return nil, &awsError{http.StatusBadRequest, "ValidationException",
			"1 validation error detected: Value at 'names' failed to satisfy constraint: Member must have length less than or equal to 10"}
	}
	found, invalid := []any{}, []string{}
	for _, n := range names {
		name, _ := n.(string)
		arn := fmt.Sprintf("arn:aws:ssm:%s:%s:parameter/%s", r.Region, Account, strings.TrimPrefix(name, "/"))
		if !r.allowed("ssm:GetParameters", arn) {
			return nil, denied("ssm:GetParameters", arn)
		}
		r.mu.Lock()
		value, ok := r.parameters[name]
		refused := r.kmsRefuses
		r.mu.Unlock()
		switch {
		case !ok:
			invalid = append(invalid, name) // with no error
		case refused:
			return nil, &awsError{http.StatusBadRequest, "AccessDeniedException",
				fmt.Sprintf("User: %s is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:%s:%s:key/1234abcd-12ab-34cd-56ef-1234567890ab because no identity-based policy allows the kms:Decrypt action", Role, r.Region, Account)}
		default:
			found = append(found, map[string]any{"Name": name, "Type": "SecureString", "Value": value, "Version": 1, "ARN": arn})
		}
	}
	return map[string]any{"Parameters": found, "InvalidParameters": invalid}, nil
}

func (r *Rig) getSecretValue(in map[string]any) (any, *awsError) {
	id, _ := in["SecretId"].(string)
	arn := fmt.Sprintf("arn:aws:secretsmanager:%s:%s:secret:%s-AbCdEf", r.Region, Account, id)
	if !r.allowed("secretsmanager:GetSecretValue", arn) {
		return nil, denied("secretsmanager:GetSecretValue", arn)
	}
	r.mu.Lock()
	value, ok := r.secrets[id]
	r.mu.Unlock()
	if !ok {
		return nil, &awsError{http.StatusBadRequest, "ResourceNotFoundException",
			"Secrets Manager can't find the specified secret."}
	}
	return map[string]any{"ARN": arn, "Name": id, "SecretString": value}, nil
}

func (r *Rig) describeServices(in map[string]any) (any, *awsError) {
	cluster, _ := in["cluster"].(string)
	services, _ := in["services"].([]any)
	out, failures := []any{}, []any{}
	for _, s := range services {
		name, _ := s.(string)
		arn := fmt.Sprintf("arn:aws:ecs:%s:%s:service/%s/%s", r.Region, Account, cluster, name)
		if !r.allowed("ecs:DescribeServices", arn) {
			return nil, denied("ecs:DescribeServices", arn)
		}
		r.mu.Lock()
		_, ok := r.services[cluster+"/"+name]
		r.mu.Unlock()
		if !ok {
			failures = append(failures, map[string]any{"arn": arn, "reason": "MISSING"})
			continue
		}
		service := map[string]any{"serviceName": name, "status": "ACTIVE"}
		task := fmt.Sprintf("arn:aws:ecs:%s:%s:task-definition/%s--%s:7", r.Region, Account, cluster, name)
		if strings.HasPrefix(name, "express") { // Express Mode has it in its deployments alone
			service["deployments"] = []any{map[string]any{"status": "ACTIVE", "taskDefinition": "old"},
				map[string]any{"status": "PRIMARY", "taskDefinition": task}}
		} else {
			service["taskDefinition"] = task
		}
		out = append(out, service)
	}
	return map[string]any{"services": out, "failures": failures}, nil
}

func (r *Rig) describeTaskDefinition(in map[string]any) (any, *awsError) {
	arn, _ := in["taskDefinition"].(string)
	if !r.allowed("ecs:DescribeTaskDefinition", "*") {
		return nil, denied("ecs:DescribeTaskDefinition", "*")
	}
	family := strings.TrimSuffix(arn[strings.LastIndex(arn, "/")+1:], ":7")
	r.mu.Lock()
	names := slices.Clone(r.services[strings.Replace(family, "--", "/", 1)])
	r.mu.Unlock()
	if names == nil {
		return nil, &awsError{http.StatusBadRequest, "ClientException", "Unable to describe task definition."}
	}
	var containers []any
	for _, n := range names {
		containers = append(containers, map[string]any{"name": n})
	}
	return map[string]any{"taskDefinition": map[string]any{"taskDefinitionArn": arn,
		"containerDefinitions": containers}}, nil
}
