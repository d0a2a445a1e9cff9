import tensorflow as tf

class MyCustomLayer(tf.keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2

model = tf.keras.models.Sequential([
  MyCustomLayer(),
  tf.keras.layers.Dense(10, activation='softmax')
])

model.compile(optimizer='adam', loss='sparse_categorical_crossentropy', metrics=['accuracy'])

# Define a signature for the SavedModel
@tf.function(input_signature=[tf.TensorSpec(shape=[None, 10], dtype=tf.float32)])
def serving_fn(x):
    return model(x)

# Export the model with the custom signature
tf.saved_model.save(model, export_path, signatures={'serving_default': serving_fn})
