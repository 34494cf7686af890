package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
)

// provisionerName is what a StorageClass names; both class and volumes made here carry it.
const provisionerName = "lockkeeper.dev/host-directory"

// provisionerMain gives each claim of our storage class a directory of the host, and takes it away when the claim is gone.
// It watches, so it costs nothing while idle; every step may be repeated, so a kill at any point is made good by the
// next start, whose first listing shows every claim and volume again.
func provisionerMain() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	root := flag.String("root", "", "absolute directory under which volumes are made")
	flag.Parse()
	if *kubeconfig == "" || !filepath.IsAbs(*root) {
		log.Fatal("need --kubeconfig FILE --root /absolute/directory")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatalf("reading %s: %v", *kubeconfig, err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		log.Fatalf("making a client: %v", err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	p := &provisioner{
		client:  client,
		root:    *root,
		claims:  factory.Core().V1().PersistentVolumeClaims().Informer(),
		volumes: factory.Core().V1().PersistentVolumes().Informer(),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[item](100*time.Millisecond, 30*time.Second)),
	}
	p.watch(p.claims, false)
	p.watch(p.volumes, true)
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	context.AfterFunc(ctx, p.queue.ShutDown)
	for p.step(ctx) {
	}
}

// item names a claim ("namespace/name") or a volume ("name").
type item struct {
	key      string
	isVolume bool
}

type provisioner struct {
	client  kubernetes.Interface
	root    string
	claims  cache.SharedIndexInformer
	volumes cache.SharedIndexInformer
	queue   workqueue.TypedRateLimitingInterface[item]
}

func (p *provisioner) watch(informer cache.SharedIndexInformer, isVolume bool) {
	enqueue := func(o any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(o); err == nil {
			p.queue.Add(item{key, isVolume})
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    enqueue,
		UpdateFunc: func(_, o any) { enqueue(o) },
	})
	if err != nil {
		log.Fatalf("watching: %v", err)
	}
}

func (p *provisioner) step(ctx context.Context) bool {
	it, shutdown := p.queue.Get()
	if shutdown {
		return false
	}
	defer p.queue.Done(it)
	if err := p.handle(ctx, it); err != nil {
		log.Printf("%s: %v; will try again", it.key, err)
		p.queue.AddRateLimited(it)
	} else {
		p.queue.Forget(it)
	}
	return true
}

func (p *provisioner) handle(ctx context.Context, it item) error {
	store := p.claims.GetStore()
	if it.isVolume {
		store = p.volumes.GetStore()
	}
	o, exists, err := store.GetByKey(it.key)
	if err != nil || !exists {
		return err
	}
	if it.isVolume {
		return p.reclaim(ctx, o.(*corev1.PersistentVolume))
	}
	return p.provision(ctx, o.(*corev1.PersistentVolumeClaim))
}

// provision makes the volume that a claim waits for. Kubernetes says by an annotation whose turn it is, which also covers
// classes that wait for the first consumer.
func (p *provisioner) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	if claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil ||
		claim.Annotations["volume.kubernetes.io/storage-provisioner"] != provisionerName {
		return nil
	}
	if mode := claim.Spec.VolumeMode; mode != nil && *mode != corev1.PersistentVolumeFilesystem {
		log.Printf("%s/%s asks for a block device: only file systems are served here", claim.Namespace, claim.Name)
		return nil
	}
	name := "pvc-" + string(claim.UID)
	path := filepath.Join(p.root, name)
	// Open to all: hostPath volumes know no fsGroup, and pods run under many users.
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o777); err != nil {
		return err
	}
	kind := corev1.HostPathDirectory
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			// By this Kubernetes knows that deleting is our business too.
			Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": provisionerName},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      claim.Spec.Resources.Requests,
			AccessModes:                   claim.Spec.AccessModes,
			StorageClassName:              *claim.Spec.StorageClassName,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind},
			},
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
		},
	}
	_, err := p.client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// reclaim removes a released volume and its directory, the directory first: the other way round a kill in between would
// leave a directory that nothing names.
func (p *provisioner) reclaim(ctx context.Context, volume *corev1.PersistentVolume) error {
	if volume.Status.Phase != corev1.VolumeReleased ||
		volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete ||
		volume.Annotations["pv.kubernetes.io/provisioned-by"] != provisionerName {
		return nil
	}
	path := filepath.Join(p.root, volume.Name)
	if volume.Spec.HostPath == nil || volume.Spec.HostPath.Path != path {
		return fmt.Errorf("is at another place than %s: not touched", path)
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	err := p.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &volume.UID},
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
