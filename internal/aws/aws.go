// Package aws makes all calls to AWS: ECR's own API, SSM, Secrets Manager, ECS and STS.
// No other package imports the SDK.
package aws

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecrpublic"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	"golang.org/x/sync/errgroup"

	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/httptransport"
	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/registry"
)

// Client makes the calls that need the caller's AWS credentials.
type Client struct {
	config aws.Config

	mu     sync.Mutex
	token  Token
	public Token // of ECR Public
}

// Load finds credentials where the AWS CLI would: environment, shared
// files, container and instance roles. It makes no call yet.
func Load(ctx context.Context, region string) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	opts := []func(*config.LoadOptions) error{
		config.WithHTTPClient(awsClient()),
		config.WithLogger(logging.Nop{}), // what matters comes back as an error
		config.WithAPIOptions([]func(*middleware.Stack) error{limitCall}),
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.Retryables = append(o.Retryables, // whatever code comes with it, as of a proxy
					retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{http.StatusTooManyRequests: {}}})
			})
		}),
	}
	if region != "" {
		opts = append(opts, config.WithRegion(region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil && ctx.Err() != nil {
		return nil, &Error{Action: "loading the AWS configuration", Err: &httptransport.StalledError{After: callTimeout}}
	}
	if err != nil {
		return nil, &fault.Error{What: "the AWS configuration does not load", Why: err.Error(),
			Fix: "correct ~/.aws/config or the AWS_… variable that it names"}
	}
	if cfg.Region == "" {
		return nil, &fault.Error{What: "no AWS region is configured",
			Fix: "set AWS_REGION or AWS_DEFAULT_REGION, or region in ecsbuild.yml, to the region of your registry, as in us-east-1"}
	}
	return &Client{config: cfg}, nil
}

// InRegion is the same caller in another region, "" for this one.
func (a *Client) InRegion(region string) *Client {
	if region == "" || region == a.config.Region {
		return a
	}
	out := &Client{config: a.config.Copy()}
	out.config.Region = region
	return out
}

// Region is the one that calls go to.
func (a *Client) Region() string { return a.config.Region }

// CallerIdentity returns the ARN of the caller: sts:GetCallerIdentity, which
// nobody can be refused.
func (a *Client) CallerIdentity(ctx context.Context) (arn string, err error) {
	who, err := sts.NewFromConfig(a.config).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", &Error{Action: "sts:GetCallerIdentity", Err: err}
	}
	return aws.ToString(who.Arn), nil
}

// callTimeout bounds a call to AWS with all its tries, attemptTimeout each of them.
var callTimeout, attemptTimeout = time.Minute, 20 * time.Second

func awsClient() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTimeout(attemptTimeout).
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = 10 * time.Second }).
		WithTransportOptions(func(t *http.Transport) { t.OnProxyConnectResponse = httptransport.CheckConnectResponse })
}

// limitCall bounds every call of every service's client.
func limitCall(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("ecsbuild.limit",
		func(ctx context.Context, in middleware.InitializeInput,
			next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			limited, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			out, meta, err := next.HandleInitialize(limited, in)
			if err != nil && ctx.Err() == nil && limited.Err() != nil {
				err = &httptransport.StalledError{After: callTimeout}
			}
			return out, meta, err
		}), middleware.Before)
}

// A Token opens every registry that the caller may reach.
type Token struct {
	Username string
	Password plan.Secret
	Host     registry.Host // the caller's own registry
	Expires  time.Time
}

// Token returns ECR's authorization token, renewed in time; the password expired
// is refused by the registry, whatever it says of itself. It is valid for 12 hours.
func (a *Client) Token(ctx context.Context, expired string) (Token, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.token.fresh(expired) {
		return a.token, nil
	}
	out, err := ecr.NewFromConfig(a.config).GetAuthorizationToken(ctx, &ecr.GetAuthorizationTokenInput{})
	if err == nil && len(out.AuthorizationData) == 0 {
		err = errors.New("the answer holds no token")
	}
	if err != nil {
		return Token{}, &Error{Action: "ecr:GetAuthorizationToken", Err: err}
	}
	data := out.AuthorizationData[0]
	user, password, err := parseToken(data.AuthorizationToken)
	if err != nil {
		return Token{}, &Error{Action: "ecr:GetAuthorizationToken", Err: err}
	}
	host, err := registry.ParseHost(aws.ToString(data.ProxyEndpoint))
	if err != nil {
		return Token{}, &Error{Action: "ecr:GetAuthorizationToken", Err: err}
	}
	a.token = Token{Username: user, Password: password, Host: host, Expires: aws.ToTime(data.ExpiresAt)}
	return a.token, nil
}

// PublicToken is Token for ECR Public, whose API is in one region.
func (a *Client) PublicToken(ctx context.Context, expired string) (Token, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.public.fresh(expired) {
		return a.public, nil
	}
	fail := func(err error) (Token, error) {
		return Token{}, &Error{Action: "ecr-public:GetAuthorizationToken", Err: err}
	}
	out, err := a.ecrPublic().GetAuthorizationToken(ctx, &ecrpublic.GetAuthorizationTokenInput{})
	if err == nil && out.AuthorizationData == nil {
		err = errors.New("the answer holds no token")
	}
	if err != nil {
		return fail(err)
	}
	user, password, err := parseToken(out.AuthorizationData.AuthorizationToken)
	if err != nil {
		return fail(err)
	}
	a.public = Token{user, password, registry.PublicHost(), aws.ToTime(out.AuthorizationData.ExpiresAt)}
	return a.public, nil
}

func (a *Client) ecrPublic() *ecrpublic.Client {
	return ecrpublic.NewFromConfig(a.config, func(o *ecrpublic.Options) { o.Region = "us-east-1" })
}

func parseToken(token *string) (user string, password plan.Secret, err error) {
	raw, err := base64.StdEncoding.DecodeString(aws.ToString(token))
	user, pass, ok := strings.Cut(string(raw), ":")
	if err != nil || !ok {
		return "", plan.Secret{}, errors.New("the token is not of the form user:password")
	}
	return user, plan.NewSecret(pass), nil
}

// fresh says whether a token can be used, where the password expired cannot.
func (t Token) fresh(expired string) bool {
	return t.Host.Name != "" && t.Password.Reveal() != expired && time.Until(t.Expires) > 10*time.Minute
}

// Values maps Source.String() to what is there.
type Values map[string]plan.Secret

// Of returns the value of a source: its own, or the one that was fetched.
func (v Values) Of(s plan.Source) (plan.Secret, bool) {
	if s.Kind == plan.FromEnv || s.Kind == plan.FromValue {
		return s.Value, true
	}
	got, ok := v[s.String()]
	return got, ok
}

// batchSize is how many names ssm:GetParameters takes at once.
// https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameters.html
const batchSize = 10

// Fetch reads parameters and secrets, side by side. What does not exist is a
// *MissingError, a refusal an *Error.
func (a *Client) Fetch(ctx context.Context, sources []plan.Source) (Values, error) {
	var params, secrets []string
	for _, s := range sources {
		switch s.Kind {
		case plan.FromSSM:
			params = append(params, s.Name)
		case plan.FromSecretsManager:
			secrets = append(secrets, s.Name)
		}
	}
	values := Values{}
	var mu sync.Mutex
	var missing []string
	g, ctx := errgroup.WithContext(ctx)
	slices.Sort(params)
	for batch := range slices.Chunk(slices.Compact(params), batchSize) {
		g.Go(func() error {
			out, err := ssm.NewFromConfig(a.config).GetParameters(ctx,
				&ssm.GetParametersInput{Names: batch, WithDecryption: aws.Bool(true)})
			if err != nil {
				return &Error{Action: "ssm:GetParameters", Resources: batch, Err: err}
			}
			mu.Lock()
			defer mu.Unlock()
			for i, p := range out.Parameters {
				// A parameter asked for by ARN answers with its name.
				for _, name := range batch {
					if name == aws.ToString(p.Name) || name == aws.ToString(p.ARN) || aws.ToString(p.Selector) != "" &&
						name == aws.ToString(p.Name)+aws.ToString(p.Selector) {
						values[plan.Source{Kind: plan.FromSSM,
							Name: name}.String()] = plan.NewSecret(aws.ToString(out.Parameters[i].Value))
					}
				}
			}
			missing = append(missing, out.InvalidParameters...)
			return nil
		})
	}
	slices.Sort(secrets)
	for _, id := range slices.Compact(secrets) {
		g.Go(func() error {
			out, err := secretsmanager.NewFromConfig(a.config).GetSecretValue(ctx,
				&secretsmanager.GetSecretValueInput{SecretId: &id})
			if err != nil {
				e := &Error{Action: "secretsmanager:GetSecretValue", Resources: []string{id}, Err: err}
				if e.Code() == "ResourceNotFoundException" {
					return &MissingError{Service: "Secrets Manager", Region: a.config.Region, Names: []string{id}}
				}
				return e
			}
			value := aws.ToString(out.SecretString)
			if out.SecretString == nil {
				value = string(out.SecretBinary)
			}
			mu.Lock()
			defer mu.Unlock()
			return pickKeys(values, sources, id, value, a.config.Region)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return nil, &MissingError{Service: "SSM", Region: a.config.Region, Names: missing}
	}
	return values, nil
}

// pickKeys stores a secret under every source that names it, whole or by key.
func pickKeys(into Values, sources []plan.Source, id, value, region string) error {
	for _, s := range sources {
		if s.Kind != plan.FromSecretsManager || s.Name != id {
			continue
		}
		if s.Key == "" {
			into[s.String()] = plan.NewSecret(value)
			continue
		}
		missing := &MissingError{Service: "Secrets Manager", Region: region, Names: []string{s.Name + "#" + s.Key}}
		var fields map[string]any
		if json.Unmarshal([]byte(value), &fields) != nil {
			missing.Why = "the secret is not a JSON object"
			return missing
		}
		field, ok := fields[s.Key]
		if !ok {
			keys := make([]string, 0, len(fields))
			for k := range fields {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			missing.Why = "its keys are " + strings.Join(keys, ", ")
			return missing
		}
		text, isText := field.(string)
		if !isText {
			raw, _ := json.Marshal(field)
			text = string(raw)
		}
		into[s.String()] = plan.NewSecret(text)
	}
	return nil
}
