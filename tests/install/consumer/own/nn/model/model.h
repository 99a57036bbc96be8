#error "one of Vitrine's headers includes a nn/model/model.h that is not Vitrine's"
