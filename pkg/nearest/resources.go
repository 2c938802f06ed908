package nearest

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ResourceNames lists every plain name that resources are known by: plural, singular
// and short ones. The lists are what Kubernetes' discovery gives.
func ResourceNames(lists []*metav1.APIResourceList) (names []string) {
	for _, list := range lists {
		for _, resource := range list.APIResources {
			names = append(names, resource.Name, resource.SingularName)
			names = append(names, resource.ShortNames...)
		}
	}
	return names
}
