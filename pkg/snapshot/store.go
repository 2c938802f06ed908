package snapshot

// Store is a bucket of an S3-compatible store that snapshots are sent to, and
// the keys to it: the content, in JSON, of the file that machined hands to
// etcd.
type Store struct {
	// Endpoint is the store's URL.
	Endpoint string `json:"endpoint"`
	Bucket   string `json:"bucket"`
	// Prefix begins the names of all objects of this cluster, and of none of
	// another: what is too old below it is removed.
	Prefix string `json:"prefix"`
	// Region may be empty; then the store is asked for it.
	Region string `json:"region,omitempty"`
	// CA (PEM) is the authority of the store's certificate; empty: a public one.
	CA              string `json:"ca,omitempty"`
	AccessKeyID     string `json:"accessKeyID"`
	SecretAccessKey string `json:"secretAccessKey"`
}

// String names the store, without its keys.
func (s Store) String() string { return s.Endpoint + "/" + s.Bucket + "/" + s.Prefix }
