"""Operations on image tensors: filters, degradations, metrics, number types."""
