package kubernetes

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/keelson-os/keelson/pkg/identity"
	"github.com/keelson-os/keelson/pkg/pki"
	"github.com/keelson-os/keelson/pkg/secretdir"
	"go.yaml.in/yaml/v3"
)

// personTTL is the life of a person's kubeconfig: it leaves the node and cannot
// be taken back. It ends sooner with the certificate of who asked for it.
// `osctl kubeconfig` makes a new one in a second.
const personTTL = 30 * 24 * time.Hour

// ErrNoGroup refuses a kubeconfig to a caller whose roles mean nothing to
// Kubernetes.
var ErrNoGroup = fmt.Errorf("no role of the caller's is known to Kubernetes; needed is %s, %s or %s",
	identity.Admin, identity.Operator, identity.Reader)

// The parts of a kubeconfig that are used here.
type (
	kubeconfigDoc struct {
		APIVersion     string         `yaml:"apiVersion"`
		Kind           string         `yaml:"kind"`
		Clusters       []namedCluster `yaml:"clusters"`
		Users          []namedUser    `yaml:"users"`
		Contexts       []namedContext `yaml:"contexts"`
		CurrentContext string         `yaml:"current-context"`
	}
	namedCluster struct {
		Name    string `yaml:"name"`
		Cluster struct {
			Server string      `yaml:"server"`
			CA     base64Bytes `yaml:"certificate-authority-data"`
		} `yaml:"cluster"`
	}
	namedUser struct {
		Name string   `yaml:"name"`
		User userAuth `yaml:"user"`
	}
	userAuth struct {
		Cert     base64Bytes `yaml:"client-certificate-data,omitempty"`
		Key      base64Bytes `yaml:"client-key-data,omitempty"`
		CertFile string      `yaml:"client-certificate,omitempty"`
		KeyFile  string      `yaml:"client-key,omitempty"`
	}
	namedContext struct {
		Name    string `yaml:"name"`
		Context struct {
			Cluster string `yaml:"cluster"`
			User    string `yaml:"user"`
		} `yaml:"context"`
	}
)

// kubeconfig renders how user reaches the cluster's API at server.
func kubeconfig(cluster, server string, ca []byte, user string, auth userAuth) ([]byte, error) {
	doc := kubeconfigDoc{APIVersion: "v1", Kind: "Config", CurrentContext: user + "@" + cluster}
	doc.Clusters = []namedCluster{{Name: cluster}}
	doc.Clusters[0].Cluster.Server, doc.Clusters[0].Cluster.CA = server, ca
	doc.Users = []namedUser{{Name: user, User: auth}}
	doc.Contexts = []namedContext{{Name: doc.CurrentContext}}
	doc.Contexts[0].Context.Cluster, doc.Contexts[0].Context.User = cluster, user
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(doc), encoder.Close()); err != nil {
		return nil, fmt.Errorf("render the kubeconfig of %s: %w", user, err)
	}
	return text.Bytes(), nil
}

// localKubeconfig renders a kubeconfig for a process of this node.
func (k *Kubernetes) localKubeconfig(user string, auth userAuth) ([]byte, error) {
	return kubeconfig(k.options.Config.Cluster.Name, "https://"+k.endpoint().String(), k.caCert(), user, auth)
}

// serviceKubeconfig renders the kubeconfig of a service of this node, with a
// new certificate for user in groups.
func (k *Kubernetes) serviceKubeconfig(user string, groups ...string) ([]byte, error) {
	pair, err := clientPair(k.ca, user, groups...)
	if err != nil {
		return nil, err
	}
	return k.localKubeconfig(user, userAuth{Cert: pair.Cert, Key: pair.Key})
}

// Kubeconfig renders a kubeconfig for a person: a new client certificate for
// user, in the group of the strongest of roles, that expires with the one by
// which the person asks. ErrNoGroup when no role stands for a group.
func (k *Kubernetes) Kubeconfig(_ context.Context, user string, roles []string, until time.Time) ([]byte, error) {
	if err := identity.CheckUser(user); err != nil {
		return nil, fmt.Errorf("no kubeconfig under the caller's name: %w", err)
	}
	groups := identity.Groups(roles)
	if len(groups) == 0 {
		return nil, ErrNoGroup
	}
	now := time.Now()
	pair, err := k.ca.Issue(pki.Request{
		CommonName: user, Organizations: groups[:1], Client: true, Now: now, TTL: min(personTTL, until.Sub(now)),
	})
	if err != nil {
		return nil, err
	}
	cluster := k.options.Config.Cluster
	return kubeconfig(cluster.Name, cluster.Endpoint, k.caCert(), user, userAuth{Cert: pair.Cert, Key: pair.Key})
}

// apid's service and user.
const apid = "apid"

// WriteAPIDKubeconfig gives apid its kubeconfig, as a user that may only
// impersonate others.
func (k *Kubernetes) WriteAPIDKubeconfig() error {
	text, err := k.serviceKubeconfig(identity.APID)
	if err != nil {
		return err
	}
	owner, err := k.owner(apid)
	if err != nil {
		return err
	}
	return secretdir.Write(k.secrets(apid), owner, map[string][]byte{kubeconfigFile: text})
}

// base64Bytes is how kubeconfig files hold PEM.
type base64Bytes []byte

// MarshalYAML implements yaml.Marshaler.
func (b base64Bytes) MarshalYAML() (any, error) { return base64.StdEncoding.EncodeToString(b), nil }
