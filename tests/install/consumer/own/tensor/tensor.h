#error "one of Vitrine's headers includes a tensor/tensor.h that is not Vitrine's"
